"""SAM template -> what CloudFormation is given, as JSON on standard output.

Runs in `.venv-sam` (`make .venv-sam/installed`): SAM's translator asks for another pydantic than we serve with.
Usage: python translate.py PARAMETERS, a JSON object of parameter -> default to use.
"""

import json
import sys
from pathlib import Path

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

TEMPLATE = Path(__file__).resolve().parents[2] / "template.yaml"


class NoManagedPolicies:
    """No policy of ours is named; SAM asks all the same."""

    def load(self) -> dict[str, str]:
        return {}


def main() -> None:
    template = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
    for name, value in json.loads(sys.argv[1]).items():
        template["Parameters"][name]["Default"] = value
    # Local folders become archives, as `sam package` makes them.
    template["Globals"]["Function"]["CodeUri"] = "s3://artifacts/code.zip"
    for said in template["Resources"].values():
        if said["Type"] == "AWS::Serverless::LayerVersion":
            said["Properties"]["ContentUri"] = "s3://artifacts/code.zip"
    print(json.dumps(transform(template, {"AWS::Region": "us-east-1"}, NoManagedPolicies()), default=str))


if __name__ == "__main__":
    main()
