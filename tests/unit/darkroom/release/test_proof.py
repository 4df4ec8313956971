"""What counts as proof that a version serves, through asynchronous and real-time endpoints."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from darkroom.bundles.manifest import EngineManifest
from darkroom.contracts import GeneratedImage, GenerationResult, Invocation
from darkroom.endpoints import Endpoints
from darkroom.errors import GenerationInvalid, ModelNotFound, Overloaded, StorageFull
from darkroom.inference.sagemaker import SageMakerAsync
from darkroom.inference.spool import Spool
from darkroom.release.machine import Prove
from darkroom.release.proof import AsyncProofs, Judge, RealTimeProofs
from darkroom.release.state import Proof, ProofVerdict, TrafficSplit
from darkroom.storage.directory import DirectoryStore
from tests.fakes import aws, bundle
from tests.fakes.container import Container
from tests.fakes.sagemaker import Front

ENDPOINTS = Endpoints({"crayon": "darkroom-crayon"})
IMAGE = b"\x89PNG and so on"


@pytest.fixture
def bundles(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "bundles")


@pytest.fixture
def images(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "images")


@pytest.fixture
def served(bundles: DirectoryStore, tmp_path: Path) -> EngineManifest:
    return bundle.publish(bundles, tmp_path)


@pytest.fixture
def judge(bundles: DirectoryStore, images: DirectoryStore) -> Judge:
    return Judge(bundles, images, wall=lambda: 1_800_000_000.0)


@pytest.fixture
def result(served: EngineManifest, images: DirectoryStore) -> GenerationResult:
    images.put("images/1/0.png", IMAGE)
    digest = hashlib.sha256(IMAGE).hexdigest()
    image = GeneratedImage(
        key="images/1/0.png", width=64, height=64, content_type="image/png", size=len(IMAGE), sha256=digest, seed=0
    )
    return GenerationResult(images=[image], seed=0, model="crayon", version=served.version, target="fake")


@pytest.fixture
def container() -> Iterator[Container]:
    with Container() as started:
        yield started


@pytest.fixture
def front(container: Container, monkeypatch: pytest.MonkeyPatch) -> Iterator[Front]:
    with Front("darkroom-crayon", container.url) as started:
        for name, value in aws.environment(started.url).items():
            monkeypatch.setenv(name, value)
        yield started


def key(address: str) -> str:
    return address.removeprefix("s3://images/async/")


def prove(manifest: EngineManifest, attempt: int = 1) -> Prove:
    return Prove(TrafficSplit(manifest.version), 7, attempt, 5.5)


# ---- what a good answer is ----------------------------------------------------------------------------------------


def test_an_image_that_is_where_it_says_is_good(judge, served, result):
    assert judge.result(served.version, result) == Proof(ProofVerdict.GOOD)


def test_another_version_an_absent_or_a_damaged_image_is_bad(judge, served, result, images):
    assert judge.result("f" * 16, result).why == f"Version {served.version} answered instead of {'f' * 16}."
    assert "without an image" in judge.result(served.version, result.model_copy(update={"images": []})).why
    images.put("images/1/0.png", IMAGE[:-1])
    assert "damaged" in judge.result(served.version, result).why
    images.delete("images/1/0.png")
    proof = judge.result(served.version, result)
    assert (proof.verdict, "not in the store" in proof.why) == (ProofVerdict.BAD, True)


def test_the_request_is_an_ordinary_one_that_no_cache_answers(judge, served):
    job = judge.job("crayon", served.version, prove(served))
    assert (job.request.num_inference_steps, job.request.sampler) == (4, "ddim")
    assert job.request.cache == "off"
    assert job == judge.job("crayon", served.version, prove(served))
    others = [judge.job("crayon", served.version, one) for one in (prove(served, 2), replace(prove(served), since=6.0))]
    assert len({one.id for one in (job, *others)}) == 3


def test_a_bundle_that_is_gone_can_be_asked_nothing(judge, served):
    with pytest.raises(ModelNotFound):
        judge.job("crayon", "f" * 16, prove(served))


# ---- asynchronous -------------------------------------------------------------------------------------------------


@pytest.fixture
def asynchronous(judge: Judge, tmp_path: Path, front: Front) -> Callable[[], AsyncProofs]:
    spool = Spool("s3://images/async", DirectoryStore(tmp_path / "spool"))
    inference = SageMakerAsync(ENDPOINTS, spool, job_seconds=900.0, wall=lambda: 1_800_000_000.0)
    return lambda: AsyncProofs("crayon", judge, inference, spool)


def test_an_answer_is_waited_for_and_read(asynchronous, front, served, result, tmp_path):
    proofs = asynchronous()
    proofs.send(prove(served))
    (queued,) = front.received
    assert Invocation.model_validate_json(queued.body).tenant == "release"
    assert proofs.look("crayon", prove(served)) == Proof(ProofVerdict.WAITING)
    answers = DirectoryStore(tmp_path / "spool")
    answers.put(key(front.output(queued)), result.model_dump_json().encode())
    assert asynchronous().look("crayon", prove(served)) == Proof(ProofVerdict.GOOD)
    assert asynchronous().look("crayon", prove(served, 2)) == Proof(ProofVerdict.WAITING)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [(GenerationInvalid(), ProofVerdict.BAD), (Overloaded(), ProofVerdict.AGAIN), (StorageFull(), ProofVerdict.BAD)],
)
def test_a_failure_is_read_too(asynchronous, front, served, tmp_path, error, verdict):
    proofs = asynchronous()
    proofs.send(prove(served))
    answers = DirectoryStore(tmp_path / "spool")
    answers.put(key(front.failure(front.received[0])), error.problem().model_dump_json().encode())
    proof = proofs.look("crayon", prove(served))
    assert (proof.verdict, served.version in proof.why) == (verdict, True)


def test_an_answer_that_cannot_be_read_is_asked_for_again(asynchronous, front, served, tmp_path):
    proofs = asynchronous()
    proofs.send(prove(served))
    DirectoryStore(tmp_path / "spool").put(key(front.output(front.received[0])), b"?")
    assert proofs.look("crayon", prove(served)).verdict is ProofVerdict.AGAIN


# ---- in real time -------------------------------------------------------------------------------------------------


def test_each_variant_is_asked(judge, front, container, served, result):
    proofs = RealTimeProofs(ENDPOINTS, judge)
    container.then(200, result.model_dump_json())
    proofs.send(prove(served))
    assert proofs.look("crayon", prove(served)) == Proof(ProofVerdict.GOOD)
    split = Prove(TrafficSplit(served.version, served.version, 10), 7, 1, 5.5)
    assert proofs.look("crayon", split) == Proof(ProofVerdict.GOOD)
    assert front.variants == ["AllTraffic", "AllTraffic", "Beside"]


@pytest.mark.parametrize(
    ("error", "verdict"), [(GenerationInvalid(), ProofVerdict.BAD), (Overloaded(), ProofVerdict.WAITING)]
)
def test_a_real_time_failure_is_told(judge, front, container, served, error, verdict):
    container.then(error.status, error.problem().model_dump_json())
    assert RealTimeProofs(ENDPOINTS, judge).look("crayon", prove(served)).verdict is verdict


def test_an_endpoint_out_of_reach_is_asked_again_later(judge, front, served):
    front.name = "gone"
    assert RealTimeProofs(ENDPOINTS, judge).look("crayon", prove(served)).verdict is ProofVerdict.WAITING
