"""What runs where this project is hosted: parsed, with actions of one commit, and with targets that there are."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_trusts_what_it_names(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (\S+)@(\S+)(.*)", text)
    assert used
    for _, commit, version in used:
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", version)
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        commands = [step.get("run", "") for step in job["steps"]]
        # A branch's name, say, would become a part of the command.
        assert not any("${{ github." in command for command in commands)


def test_their_targets_and_versions_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    rows = workflow["jobs"]["test"]["strategy"]["matrix"]["include"]
    targets = {row["target"].split()[0] for row in rows} | set(re.findall(r"run: make ([a-z-]+)", text))
    assert targets == {"test", "test-lowest", "lint", "quickstart"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {word.rpartition(" ")[2] for word in project["classifiers"] if "Python :: 3." in word}
    assert named == {row["python"] for row in rows}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"]
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
