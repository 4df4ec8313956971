"""`plan` as a person runs it: tables, a picture, what an executor would be told, and one sentence for each mistake."""

import json
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from local.__main__ import main
from local.plan.command import plan
from local.plan.command import run as run_plan

DAY = ["--from", "2026-11-16", "--to", "2026-11-17"]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    app.command()(plan)
    return lambda *arguments: CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.fixture
def examples(request):
    return request.config.rootpath / "examples"


def test_the_timeline_alone(run, examples):
    result = run(examples / "seeds.yaml", *DAY)
    assert result.exit_code == 0
    assert "Mon 2026-11-16 09:00 CST" in result.output
    assert "pin daily 09:00 Asia/Shanghai holds until the next one" in result.output
    assert "What it would come to" not in result.output


def test_a_trace_gives_the_comparison_and_the_picture(run, examples, tmp_path):
    picture = tmp_path / "plan.svg"
    policy = examples / "office-hours.yaml"
    result = run(policy, "--trace", "quiet-with-spikes", *DAY, "--svg", picture, "--instance", "g4dn.xlarge")
    assert result.exit_code == 0, result.output
    for said in ("the policy", "always 4 (max)", "always 1 (min)", "replica-hours", "USD", "list price of"):
        assert said in result.output
    root = ElementTree.fromstring(picture.read_text())  # noqa: S314 (our own file)
    assert root.tag.endswith("svg")
    said = " ".join(root.itertext())
    assert all(
        one in said for one in ("working-hours", "lunch", "replicas", "unfinished requests", "requests a minute")
    )


@pytest.mark.parametrize("trace", ["quiet-with-spikes", "office-hours"])
def test_eighty_columns_cut_nothing(run, examples, monkeypatch, trace):
    monkeypatch.setenv("COLUMNS", "80")
    result = run(examples / "office-hours.yaml", "--trace", trace, *DAY)
    assert result.exit_code == 0
    assert "…" not in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert "always 4 (max)" in result.output


def test_aws_is_priced_service_by_service(run, examples):
    policy = examples / "office-hours.yaml"
    result = run(policy, "--trace", "quiet-with-spikes", *DAY, "--aws", "--image-kilobytes", "0")
    assert result.exit_code == 0, result.output
    for said in ("What AWS would ask for it, USD", "SageMaker", "Lambda", "DynamoDB", "together", "a thousand images"):
        assert said in result.output
    assert any(line.split()[1:4] == ["images", "sent", "out"] and "0.00" in line for line in result.output.splitlines())


def test_a_picture_of_the_timeline_alone(run, examples, tmp_path):
    result = run(
        examples / "two-continents.yaml", "--from", "2026-03-01", "--to", "2026-04-15", "--svg", tmp_path / "p.svg"
    )
    assert result.exit_code == 0
    assert "more breakpoints" in result.output
    assert "unfinished" not in (tmp_path / "p.svg").read_text()


@pytest.mark.parametrize(
    ("executor", "member"),
    [("keda", "apiVersion"), ("application-autoscaling-real-time", "scheduled_actions"), ("pool", "limits")],
)
def test_what_an_executor_would_be_told(run, examples, executor, member):
    result = run(examples / "seeds.yaml", *DAY, "--render", executor)
    assert member in json.loads(result.stdout)


def test_mistakes_are_one_sentence(run, examples, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("min: 3\nmax: 2\n")
    for arguments, said in (
        ([bad], "bad.yaml: min: min is greater than max. (/min)"),
        ([tmp_path / "none.yaml"], "cannot be read"),
        ([examples / "seeds.yaml", "--trace", "nowhere"], "cannot be read; give a CSV"),
        ([examples / "seeds.yaml", "--instance", "gold"], "The table has no gold"),
        ([examples / "seeds.yaml", "--from", "2026-01-02", "--to", "2026-01-01"], "later than --from"),
        ([examples / "seeds.yaml", "--aws"], "give a --trace"),
        ([examples / "seeds.yaml", "--trace", "bursty", "--aws", "--instance", "g5.xlarge"], "none of its instances"),
        ([examples / "seeds.yaml", *DAY, "--render", "crystal-ball"], "no executor crystal-ball"),
        ([examples / "seeds.yaml", *DAY, "--render", "application-autoscaling"], "use queue_depth"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2
        assert said in result.output
        assert "Traceback" not in result.output


def test_it_is_reached_from_the_deployments_command(examples, capsys):
    assert main(["plan", str(examples / "smallest.json"), *DAY]) == 0
    assert "What will hold when" in capsys.readouterr().out
    assert main(["paln"]) == 2
    assert "python -m local plan POLICY" in capsys.readouterr().err


def test_it_runs_with_a_command_lines_arguments(examples, capsys):
    assert run_plan([str(examples / "smallest.json"), *DAY]) == 0
    assert "What will hold when" in capsys.readouterr().out
    assert run_plan(["none.yaml"]) == 2
    assert run_plan([]) == 2
