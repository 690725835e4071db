"""What an installed package holds beside its code."""

from pathlib import Path

import klens

HEADER = Path(__file__).resolve().parents[2] / "include" / "klens" / "version.hpp"


def test_type_checkers_find_stubs():
    folder = Path(klens.__file__).parent
    assert (folder / "py.typed").exists()
    stubs = (folder / "_core.pyi").read_text()
    for name in ("def measure(", "def rank(", "class Layer"):
        assert name in stubs


def test_the_version_is_the_library_s():
    parts = [line.split()[-1] for line in HEADER.read_text().splitlines() if line.startswith("#define KLENS_VERSION_")]
    assert klens.__version__ == ".".join(parts[:3])


def test_all_names_are_there():
    assert all(hasattr(klens, name) for name in klens.__all__)
