"""Put the ledger, the figures and the speed table of the last run into README.md; numbers are never typed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from theory_sim.study import load_study

ROOT = Path(__file__).parents[1]
HEAD = "sensing_symmetric_rate"
"""The figure at the head of the page, whose caption is written there."""
SHOWN = (
    "attention_sample_complexity",
    "attention_certified_rank",
    "sensing_asymmetric_rate",
    "subspace_codimension",
    "subspace_mnist",
)
FAMILIES = {"attention": "One-layer attention", "sensing": "Matrix sensing", "subspace": "Random subspaces"}
COMMAND = Path(sys.executable).with_name("theory-sim")


def section(text: str, name: str, content: str) -> str:
    """Return the README with the part between two marks replaced."""
    mark = rf"(<!-- {name}: [^>]*-->\n).*?(<!-- /{name} -->)"
    return re.sub(mark, lambda found: f"{found[1]}{content}{found[2]}", text, count=1, flags=re.DOTALL)


def speed_table() -> str:
    """Return the benchmark as Markdown."""
    out = subprocess.run([COMMAND, "bench", "--json"], capture_output=True, text=True, check=True, cwd=ROOT)
    speeds = json.loads(out.stdout)
    rows = ["| kernel (float64) | runs | steps/s | GFLOP/s | limit | of the limit | x NumPy | x PyTorch |"]
    rows.append("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    for s in speeds:
        torch = "-" if s["torch_ratio"] is None else f"{s['torch_ratio']:.1f}"
        rows.append(
            f"| {s['kernel']} | {s['runs']} | {s['steps_per_second']:,.0f} | {s['gflops']:.1f} | {s['limit']} "
            f"| {s['fraction']:.2f} | {s['numpy_ratio']:.1f} | {torch} |"
        )
    peak = f"{speeds[0]['gemm_peak_gflops']:.0f} GFLOP/s in matrix products, {speeds[0]['bandwidth_gbs']:.0f} GB/s read"
    return f"Two cores of a CPU ({peak}):\n\n" + "\n".join(rows) + "\n"


def main() -> None:
    """Rewrite README.md and the figures beside it."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    text = section(text, "ledger", (ROOT / "paper/generated/ledger.md").read_text())
    gallery = ROOT / "figures" / "gallery"
    gallery.mkdir(exist_ok=True)
    shown: list[str] = []
    folded: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for figure in sorted((ROOT / "figures" / "out").glob("*.png")):
        shutil.copy(figure, gallery / figure.name)
        if figure.stem != HEAD:
            summary = load_study(str(ROOT / "sweeps" / f"{figure.stem}.py")).summary
            place = shown if figure.stem in SHOWN else folded[figure.stem.partition("_")[0]]
            place.append(f"![{figure.stem}](figures/gallery/{figure.name})\n\n*{summary}*\n")
    for family, figures in folded.items():
        shown += [
            f"<details><summary>{FAMILIES[family]}: the other studies</summary>\n",
            *figures,
            "</details>\n",
        ]
    text = section(text, "gallery", "\n".join(shown))
    readme.write_text(section(text, "speed", speed_table()))


if __name__ == "__main__":
    main()
