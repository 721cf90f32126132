"""Draws what `make bench` measured: python3 docs/plots.py FOLDER-WITH-CSV FOLDER-FOR-SVG"""

import csv
import os
import statistics
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "kcagent"  # the same picture from the same figures
import matplotlib.pyplot as plt

source, target = sys.argv[1:3]


def rows(name):
    with open(os.path.join(source, name)) as f:
        return list(csv.DictReader(line for line in f if not line.startswith("#")))


def save(fig, name):
    fig.tight_layout()
    fig.savefig(os.path.join(target, name), metadata={"Date": None})


def idle():
    """What idle consumers cost, by their number."""
    data = [r for r in rows("idle.csv") if r["kind"] == "consumers"]
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    for axis, (column, label) in zip(axes, [("rss_mib", "resident memory, MiB"), ("goroutines", "goroutines"), ("cores", "cores")]):
        axis.plot([int(r["n"]) for r in data], [float(r[column]) for r in data], marker="o")
        axis.set_xlabel("idle consumers")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    save(fig, "cost-idle.svg")


def speed():
    """Throughput and CPU by size of record: 4 partitions, uncompressed, one line for each program."""
    data = rows("throughput.csv")
    first = data[0]["mb"]
    data = [r for r in data if r["codec"] == "none" and r["partitions"] == "4" and r["mb"] == first]
    figures = {
        "MB/s": lambda r: float(r["mb_per_s"]),
        "CPU-s/GB": lambda r: float(r["user_s_per_gb"]) + float(r["system_s_per_gb"]),
    }
    sizes = sorted({int(r["bytes"]) for r in data})
    fig, axes = plt.subplots(1, 2, figsize=(11, 4))
    for axis, (label, figure) in zip(axes, figures.items()):
        for tool in ("kcagent", "kcagent json", "plain", "franz-go", "kcat", "floor"):
            medians = [statistics.median(figure(r) for r in data if r["tool"] == tool and int(r["bytes"]) == size)
                       for size in sizes if any(r["tool"] == tool and int(r["bytes"]) == size for r in data)]
            if len(medians) == len(sizes):
                style = {"color": "black", "linestyle": "--"} if tool == "floor" else {"marker": "o"}
                axis.plot(range(len(sizes)), medians, label=tool, **style)
        axis.set_xticks(range(len(sizes)), [f"{size} B" for size in sizes])
        axis.set_xlabel("value of a record; uncompressed, 4 partitions")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend()
    save(fig, "speed.svg")


idle()
speed()
