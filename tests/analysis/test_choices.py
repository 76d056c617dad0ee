"""Choices are named without loading what carries them out."""

import subprocess
import sys


def test_naming_a_choice_loads_no_analysis() -> None:
    code = "import sys, analysis.choices; print(*{'numpy', 'pandas', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
