"""Write the golden wire files anew. Run by hand, after a deliberate change of the format only."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[2]


def main():
    sys.path.insert(0, str(ROOT))
    path = ROOT / "tests" / "mpfl" / "wire" / "cases.py"
    spec = importlib.util.spec_from_file_location("wire_cases", path)
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    for old in FOLDER.glob("*.hex"):
        old.unlink()
    for name, payload in cases.golden_payloads().items():
        text = payload.hex()
        lines = [text[i : i + 96] for i in range(0, len(text), 96)]
        (FOLDER / f"{name}.hex").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
