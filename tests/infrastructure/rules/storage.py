"""Buckets, tables, the secret and the logs: encrypted, private, kept for as long as was said, and no longer."""

from __future__ import annotations

from collections.abc import Iterator

from darkroom.database import records as policies
from darkroom.images.finished import image_key
from darkroom.images.uploads import PREFIX
from darkroom.jobs import items as jobs
from runtime.cache.shared import PREFIX as SHARED
from tests.infrastructure.iam import allows
from tests.infrastructure.rulebook import rule, states, wants
from tests.infrastructure.rules.functions import environment
from tests.infrastructure.stack import Resource, Stack

BUCKET_BLOCKS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
TABLES = {"Jobs": jobs.TABLE, "Policies": policies.TABLE}
EXPIRING = {"Jobs": jobs.EXPIRES}


@rule
def buckets_are_private_and_encrypted(stack: Stack) -> Iterator[str]:
    """No object is readable by the public, written unencrypted, or owned by whoever uploaded it."""
    for bucket in stack.of("AWS::S3::Bucket"):
        for block in BUCKET_BLOCKS:
            stated = bucket["PublicAccessBlockConfiguration"].get(block)
            yield from wants(stated is True, f"{bucket.name} lacks {block}")
        (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        algorithm = encryption["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        yield from wants(algorithm in ("AES256", "aws:kms"), f"{bucket.name} is not encrypted")
        (owner,) = bucket["OwnershipControls"]["Rules"]
        yield from wants(owner["ObjectOwnership"] == "BucketOwnerEnforced", f"{bucket.name} takes foreign objects")


@rule
def buckets_are_reached_over_tls_only(stack: Stack) -> Iterator[str]:
    """A request without TLS is denied, whoever makes it, for the bucket and for what is in it."""
    for bucket in stack.of("AWS::S3::Bucket"):
        found = [one for one in stack.of("AWS::S3::BucketPolicy") if one["Bucket"] == f"{bucket.name.lower()}-id"]
        yield from wants(len(found) == 1, f"{bucket.name} has no policy of its own")
        for policy in found:
            document = policy["PolicyDocument"]
            yield from _policy_says(policy.name, document)
            open_door = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
            for arn in (f"arn:aws:s3:::{policy['Bucket']}", f"arn:aws:s3:::{policy['Bucket']}/models/a"):
                for action in ("s3:GetObject", "s3:ListBucket", "s3:PutObject"):
                    over = {secure: {"aws:SecureTransport": secure} for secure in ("true", "false")}
                    statements = [*open_door, *document["Statement"]]
                    refused = not allows(statements, action, arn, over["false"])
                    yield from wants(refused, f"{bucket.name} answers {action} without TLS")
                    yield from wants(allows(statements, action, arn, over["true"]), f"{bucket.name} refuses {action}")


def _policy_says(where: str, document: dict) -> Iterator[str]:
    yield from wants(document["Version"] == "2012-10-17", f"{where}: the policy language of 2008")
    for statement in document["Statement"]:
        yield from states(where, statement, "Sid", "Effect", "Principal")
        if statement["Effect"] == "Deny":
            yield from wants(statement["Principal"] == "*", f"{where}: {statement['Sid']} denies to some only")
        else:
            yield from wants("Service" in statement["Principal"], f"{where}: {statement['Sid']} is open to the world")


@rule
def policies_of_queues_and_topics(stack: Stack) -> Iterator[str]:
    """A policy speaks the present language, and allows nothing to the world."""
    for kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy"):
        for policy in stack.of(kind):
            yield from _policy_says(policy.name, policy["PolicyDocument"])


@rule
def uploads_that_never_finish_are_removed(stack: Stack) -> Iterator[str]:
    """A multipart upload that broke off is invisible and is paid for."""
    for bucket in stack.of("AWS::S3::Bucket"):
        ends = [
            one["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]
            for one in _lifecycle(bucket)
            if "AbortIncompleteMultipartUpload" in one and "Prefix" not in one
        ]
        yield from wants(bool(ends) and 1 <= min(ends) <= 7, f"{bucket.name} keeps unfinished uploads")


@rule
def images_expire_and_bundles_do_not(stack: Stack) -> Iterator[str]:
    """Images after ImageDays, SageMaker's files after days; a bundle stays, and an overwritten pointer for a month."""
    images, engines = stack.resources["Images"], stack.resources["Engines"]
    days = {key: _expires(images, key) for key in (image_key("j", 0, "png"), "async/in/j", "async/out/j.out")}
    kept = int(stack.parameters["ImageDays"])
    yield from wants(days[image_key("j", 0, "png")] == kept, "images are not deleted after ImageDays")
    told = float(environment(stack.functions()["api"])["DARKROOM_IMAGE_DAYS"])
    promised = 0 if stack.parameters["StoreEndpoint"] else kept
    yield from wants(told == promised, "the API promises to keep images for as long as nobody does")
    yield from wants(all(1 <= (days[f"async/{one}"] or 99) <= 7 for one in ("in/j", "out/j.out")), "async/ piles up")
    yield from wants(_expires(images, f"{PREFIX}0123") == 2, "uploads pile up, or end before their day is over")
    yield from wants(_expires(images, f"{SHARED}m/v/15.latents") == 30, "latents of retired versions pile up")
    yield from wants(_expires(engines, "models/m/v/manifest.json") is None, "a bundle would expire")
    yield from wants(engines["VersioningConfiguration"]["Status"] == "Enabled", "an overwritten pointer is lost")
    old = [
        one["NoncurrentVersionExpiration"]["NoncurrentDays"] for one in _lifecycle(engines) if "Noncurrent" in str(one)
    ]
    yield from wants(old == [30], "old versions of objects pile up")


def _lifecycle(bucket: Resource) -> list[dict]:
    rules = bucket["LifecycleConfiguration"]["Rules"]
    if not all(one["Id"] and one["Status"] == "Enabled" for one in rules):
        raise ValueError(f"{bucket.name} has a lifecycle rule without a name, or one that is off")
    return rules


def _expires(bucket: Resource, key: str) -> int | None:
    expiring = [one for one in _lifecycle(bucket) if "ExpirationInDays" in one]
    return next((one["ExpirationInDays"] for one in expiring if key.startswith(one["Prefix"])), None)


@rule
def what_is_stored_outlives_the_stack(stack: Stack) -> Iterator[str]:
    """Deleting or replacing a resource never deletes data; logs are not data."""
    for kind, fate in {
        "AWS::S3::Bucket": "Retain",
        "AWS::DynamoDB::Table": "Retain",
        "AWS::Logs::LogGroup": "Delete",
    }.items():
        for one in stack.of(kind):
            for event in ("DeletionPolicy", "UpdateReplacePolicy"):
                yield from wants(one.attributes.get(event) == fate, f"{one.name}: {event} must be {fate}")


@rule
def tables_are_what_the_code_asks_for(stack: Stack) -> Iterator[str]:
    """Keys, indexes and billing of each table are those of the store's own TABLE."""
    found = {one.name: one for one in stack.of("AWS::DynamoDB::Table")}
    yield from wants(found.keys() == TABLES.keys(), f"tables {sorted(found)} for the stores of {sorted(TABLES)}")
    for name, wanted in TABLES.items():
        stated = {key: found[name].get(key) for key in wanted}
        yield from wants(stated == wanted, f"{name} is not the table that its store describes: {stated}")
        ends = found[name].get("TimeToLiveSpecification", {})
        if name in EXPIRING:
            right = ends == {"AttributeName": EXPIRING[name], "Enabled": True}
            yield from wants(right, f"{name} does not forget by {EXPIRING[name]}")
        else:
            yield from wants(not ends, f"{name} forgets, and nothing in it may be forgotten")


@rule
def tables_can_be_restored(stack: Stack) -> Iterator[str]:
    """Encrypted with a key whose use is logged, and restorable to any second of the last 35 days."""
    for table in stack.of("AWS::DynamoDB::Table"):
        yield from wants(table["SSESpecification"]["SSEEnabled"] is True, f"{table.name} uses the shared key")
        recovery = table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        yield from wants(recovery is True, f"{table.name} cannot be restored")


@rule
def the_first_key_is_drawn_by_the_cloud(stack: Stack) -> Iterator[str]:
    """A JSON object of tenant to key, long enough and free of what a shell or a header would choke on."""
    for secret in stack.of("AWS::SecretsManager::Secret"):
        drawn = secret["GenerateSecretString"]
        yield from states(secret.name, secret.properties, "Description")
        yield from wants(drawn["SecretStringTemplate"] == "{}", "the secret is no JSON object")
        yield from wants(drawn["GenerateStringKey"] == "default", "the first tenant must be `default`")
        yield from wants(drawn["PasswordLength"] >= 32, "the key is short")
        yield from wants(drawn["ExcludePunctuation"] is True, "the key breaks in a shell")
    exists = bool(list(stack.of("AWS::SecretsManager::Secret")))
    yield from wants(exists == (stack.parameters["Access"] == "api-key"), "keys exist where keys are asked for, only")


@rule
def logs_end(stack: Stack) -> Iterator[str]:
    """Every log group is kept for LogDays, and each is named for what writes to it."""
    prefix = stack.parameters["Deployment"]
    functions = {one["FunctionName"] for one in stack.of("AWS::Serverless::Function")}
    wanted = {f"/aws/lambda/{one}" for one in functions} | {
        f"/aws/vendedlogs/{prefix}-access",
        f"/aws/sagemaker/Endpoints/{prefix}-{stack.parameters['ModelName']}",
    }
    found = {one["LogGroupName"]: one for one in stack.of("AWS::Logs::LogGroup")}
    yield from wants(found.keys() == wanted, f"log groups {sorted(found.keys() ^ wanted)}")
    for group in found.values():
        yield from wants(group["RetentionInDays"] == int(stack.parameters["LogDays"]), f"{group.name} never ends")
