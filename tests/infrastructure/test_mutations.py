"""Leave out any one property of the template, and some check fails: otherwise nothing would keep it right."""

import functools
from pathlib import Path

import pytest

from tests.infrastructure import mutation
from tests.infrastructure.stack import ROOT, read

# The rules read what the functions import, the layer, and the page that explains the alarms.
ROOMS = [room for room in ("api", "functions", "layers/shared") if (ROOT / room).is_dir()]
READ = ("template.yaml", "docs/aws.md", "tests/infrastructure/rules/*.py", *(f"{room}/**/*" for room in ROOMS))
pytestmark = [pytest.mark.template, pytest.mark.costly(*READ)]
TEMPLATE = read()
GOAL = 0.95
# What may be left out unnoticed, and why that is so.
SURVIVORS: dict[str, str] = {}


@functools.cache
def unnoticed_by_rules() -> tuple[mutation.Path_, ...]:
    paths = mutation.properties(TEMPLATE)
    return tuple(path for path in paths if mutation.noticed_by_rules(mutation.without(TEMPLATE, path)) is None)


def test_the_template_itself_is_not_faulted(tmp_path: Path) -> None:
    assert mutation.noticed_by_rules(TEMPLATE) is None
    assert mutation.noticed_by_cfn_lint(tmp_path)(TEMPLATE) is None


def test_leaving_out_a_property_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutation.noticed_by_rules(TEMPLATE) is None  # otherwise whatever is left out is "noticed"
    everything = list(mutation.properties(TEMPLATE))
    lint = mutation.noticed_by_cfn_lint(tmp_path)
    survivors = [path for path in unnoticed_by_rules() if lint(mutation.without(TEMPLATE, path)) is None]
    share = 1 - len(survivors) / len(everything)
    with capsys.disabled():
        by_rules = len(everything) - len(unnoticed_by_rules())
        print(
            f"\n{len(everything)} properties left out one at a time: {by_rules} noticed by rules, "
            f"{len(unnoticed_by_rules()) - len(survivors)} by cfn-lint, {len(survivors)} by nothing "
            f"({share:.1%} noticed)"
        )
        for path in survivors:
            print(f"  {mutation.written(path)}: {SURVIVORS.get(mutation.written(path), 'NOT EXPLAINED')}")
    assert {mutation.written(path) for path in survivors} == SURVIVORS.keys()
    assert share >= GOAL
