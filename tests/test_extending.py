"""What CONTRIBUTING.md says suffices to add something does: each is done in a copy of the tree.

A test touches what its row names and nothing else, refreshes the documentation as `make docs` does,
and looks for the new thing wherever a user would meet it.
"""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from mirv.config.profiles import load_profile
from mirv.dicom_io.phantom.patient import write_study

ROOT = Path(__file__).parents[1]
# Where the rows of CONTRIBUTING.md lead, and how the program and `make docs` are started.
METRIC_FUNCTIONS = "analysis/heterogeneity/mirv2025.py"
METRICS = "analysis/heterogeneity/__init__.py"
PROFILES = "config/profiles"
PROFILE_TEST = "tests/config/test_profiles.py"
OUTPUT_MODULES = "dicom_io/outputs/reports"
OUTPUTS = "dicom_io/outputs/__init__.py"
SETTINGS = {  # file: the field a new one is put before
    "config/settings/__init__.py": "    worker_silent_s: ",
    "config/settings/network.py": "    acse_timeout_s: ",
    "config/settings/processing.py": "    lesion_timeout_s: ",
    "config/settings/keeping.py": "    keep_workflow_days: ",
}
COMMANDS = "service/commands"
ENTRIES = "service/commands/main.py"
MIRV = ("-c", "from mirv.service.commands.main import main; main()")
DOCS = ("-m", "tests.doc_tables")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
PROBE = ("-m", "tests.extending_probe")
OUTPUT_IMPORTS = """\
from mirv.analysis.model import StudyResult
from mirv.dicom_io.model import Artifact, RenderContext, StudyInput
from mirv.dicom_io.outputs import document
from mirv.dicom_io.outputs.document import Role
from mirv.dicom_io.outputs.reports import template_content
"""
OUTPUT_IMPORT = "from mirv.dicom_io.outputs.reports.toy_sr import TOY_SR, toy_sr\n"
NOT_COPIED = shutil.ignore_patterns(".*", "node_modules", "*.egg-info", "build")


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the tree, to be changed and run."""

    root: Path

    def insert(self, file: str, before: str, text: str) -> None:
        """Put `text` before the one place where `before` stands."""
        path = self.root / file
        content = path.read_text(encoding="utf-8")
        assert content.count(before) == 1, f"{file}: found {content.count(before)} of {before!r}"
        path.write_text(content.replace(before, text + before), encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        """Put `text` at the end."""
        path = self.root / file
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    def run(self, *words: str | Path, **environment: str) -> str:
        """Run Python on the copy; what it prints."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.root,
            env={
                **os.environ,
                "PYTHONPATH": str(self.root / "src"),
                "COLUMNS": "200",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def page(self, name: str) -> str:
        """A page of the documentation after `make docs`."""
        self.run(*DOCS)
        return (self.root / name).read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Of its own: the links in src/mirv lead to the folders of the copy."""
    tree = shutil.copytree(ROOT, tmp_path / "tree", symlinks=True, ignore=NOT_COPIED)
    return Copy(tree)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five lesions: enough to be scaled within the patient."""
    return write_study(tmp_path_factory.mktemp("study"), n_lesions=5, shape=(24, 96, 96)).folder


def items(ds: Dataset) -> Iterator[Dataset]:
    """All content items of a report."""
    for item in ds.get("ContentSequence", ()):
        yield item
        yield from items(item)


def said(report: Path) -> list[str]:
    """Meanings of the concepts and texts of a report."""
    found = list(items(pydicom.dcmread(report)))
    names = [code.CodeMeaning for item in found for code in item.get("ConceptNameCodeSequence", ())]
    return names + [str(item.TextValue) for item in found if "TextValue" in item]


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def test_a_metric_is_one_function_and_one_entry(copy: Copy, study: Path, tmp_path: Path) -> None:
    copy.append(
        METRIC_FUNCTIONS,
        '\n\ndef toy(pairs: FloatArray) -> float:\n    """Range."""\n'
        "    return float(pairs.max() - pairs.min())\n",
    )
    copy.insert(
        METRICS,
        ")\n\n\ndef percentile_name",
        '    Metric(name="toy_range", title="Toy range", definition="range of D_ij", unit="1",\n'
        '           index_set=IndexSet.OWN, distance="cosine", summarise=mirv2025.toy,\n'
        "           scalings=tuple(Scaling), headline=True, published=True),\n",
    )
    out = tmp_path / "out"
    copy.run(*PROBE, study, out)
    with (out / "patients.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["toy_range"]) < float(row["mtd"])
    assert "Toy range" in said(only(out, "patient_sr-*.dcm"))
    assert any(text.startswith("Toy range: ") for text in said(only(out, "headline_sr-*.dcm")))
    assert 'title="Toy range">toy_range</td>' in (out / "page.html").read_text(encoding="utf-8")
    assert "| `toy_range` | Toy range | `range of D_ij` |" in copy.page("docs/methods.md")
    if shutil.which("pdftotext"):
        pdf = tmp_path / "report.pdf"
        ds = pydicom.dcmread(only(out, "report_pdf-*.dcm"))
        pdf.write_bytes(ds.EncapsulatedDocument)
        words = subprocess.run(
            ["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True
        )
        assert "Toy range" in words.stdout


def test_a_profile_is_one_file_and_its_digest(copy: Copy, study: Path, tmp_path: Path) -> None:
    made = copy.root / PROFILES / "toy.yaml"
    like = (ROOT / PROFILES / "henry2022.yaml").read_text(encoding="utf-8")
    made.write_text(
        like.replace("name: henry2022", "name: toy").replace("binWidth: 10", "binWidth: 20"),
        encoding="utf-8",
    )
    digest = load_profile(str(made)).digest()
    copy.insert(PROFILE_TEST, '    "henry2022": "', f'    "toy": "{digest}",\n')
    copy.run(*PYTEST, PROFILE_TEST, "-k", "toy")
    assert "toy" in copy.run(*MIRV, "profile", "list")
    out = tmp_path / "out"
    copy.run(*MIRV, "process", study, "--out", out, "--profile", "toy")
    with (out / "lesions.csv").open(encoding="utf-8") as file:
        assert {row["profile"] for row in csv.DictReader(file)} == {"toy"}
    assert "| `toy` | " in copy.page("docs/extraction.md")


def test_an_output_is_one_function_and_one_entry(copy: Copy, study: Path, tmp_path: Path) -> None:
    (copy.root / OUTPUT_MODULES / "toy_sr.py").write_text(
        OUTPUT_IMPORTS
        + 'TOY_SR = Role("toy_sr", document.COMPREHENSIVE_3D_SR, "SR", 9099, "Toy")\n'
        "def toy_sr(\n"
        "    study: StudyInput, result: StudyResult, context: RenderContext\n"
        ") -> tuple[Artifact, ...]:\n"
        "    ds = document.sr_header(study, context, TOY_SR, document.inputs(study))\n"
        "    body = [template_content.statements(study)]\n"
        "    content = template_content.measurement_report(study, context, body)\n"
        "    return (document.artifact(ds, TOY_SR, context, content),)\n",
        encoding="utf-8",
    )
    copy.insert(OUTPUTS, "\nRender = ", OUTPUT_IMPORT)
    copy.insert(
        OUTPUTS,
        ")\n\n\ndef extra_names",
        '    Output(TOY_SR, toy_sr, "Comprehensive 3D SR of nothing", "testers", "1500"),\n',
    )
    settings, out = tmp_path / "mirv.yaml", tmp_path / "out"
    settings.write_text("outputs: {extras: [toy_sr]}\nprofiles: [henry2022]\n", encoding="utf-8")
    copy.run(*MIRV, "process", study, "--out", out, "--config", settings)
    assert pydicom.dcmread(only(out, "toy_sr-*.dcm")).SeriesDescription == "Toy"
    page = copy.page("docs/outputs.md")
    assert "| `toy_sr` | Comprehensive 3D SR of nothing | testers | by setting |" in page
    assert "| toy_sr | 1500 |" in copy.page("docs/conformance.md")


def test_a_setting_is_one_field(copy: Copy) -> None:
    """One in each file of the settings."""
    for number, (file, before) in enumerate(SETTINGS.items()):
        field = f'    toy_{number}: float = Field(7, gt=0, description="How long a toy lasts")\n'
        copy.insert(file, before, field)
    variables = ("TOY_0", "LISTENER__TOY_1", "EXTRACTION__TOY_2", "RETENTION__TOY_3")
    as_written = copy.run(*MIRV, "config", "check")
    overridden = copy.run(*MIRV, "config", "check", **{f"MIRV_{name}": "8" for name in variables})
    page = copy.page("docs/settings.md")
    for number in range(len(SETTINGS)):
        assert f"toy_{number}: 7" in as_written
        assert f"toy_{number}: 8" in overridden
        assert f"| `toy_{number}` | number above 0 | `7` | How long a toy lasts |" in page


def test_a_command_of_a_group_is_one_function(copy: Copy) -> None:
    copy.append(
        f"{COMMANDS}/profiles.py",
        '\n\n@app.command("toy")\ndef profile_toy() -> None:\n    """Play."""\n'
        '    out().print("played")\n',
    )
    assert "played" in copy.run(*MIRV, "profile", "toy")
    assert "Play." in copy.run(*MIRV, "profile", "--help")
    row = "| `mirv profile` | Extraction profiles: `list`, `import`, `toy` |"
    assert row in copy.page("README.md")


def test_a_command_is_one_function_and_one_entry(copy: Copy) -> None:
    copy.append(
        f"{COMMANDS}/studies.py",
        '\n\n@app.command()\ndef toy() -> None:\n    """Play."""\n    out().print("played")\n',
    )
    copy.insert(ENTRIES, '    "serve": Entry(', '    "toy": Entry("Play.", _studies),\n')
    assert "played" in copy.run(*MIRV, "toy")
    assert "Play." in copy.run(*MIRV, "--help")
    assert "| `mirv toy` | Play. |" in copy.page("README.md")
