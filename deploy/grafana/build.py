"""Write the dashboards: `python -m deploy.grafana.build`. The JSON is committed; a test regenerates and compares it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from deploy.grafana.boards import boards

FOLDER: Final = Path(__file__).parent / "dashboards"


def rendered() -> dict[Path, str]:
    """File -> text of each dashboard."""
    return {FOLDER / f"{name}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in boards().items()}


def main() -> None:
    """Write them all."""
    for path, text in rendered().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
