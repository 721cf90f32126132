"""Draws what `make bench` measured: python3 docs/plots.py FOLDER-WITH-CSV FOLDER-FOR-SVG"""

import csv
import os
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "kcagent"  # the same picture from the same figures
import matplotlib.pyplot as plt

source, target = sys.argv[1:3]


def rows(name):
    with open(os.path.join(source, name)) as f:
        return list(csv.DictReader(f))


def save(fig, name):
    fig.tight_layout()
    fig.savefig(os.path.join(target, name), metadata={"Date": None})


def many():
    """How cost grows with consumers, topics and partitions."""
    data = rows("many.csv")
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.5))
    for axis, (column, label) in zip(axes, [("rss_mib", "memory, MiB"), ("cores", "cores"), ("start_s", "all run after, s")]):
        for kind in ("consumers", "topics", "partitions"):
            points = sorted((int(r["n"]), float(r[column])) for r in data if r["kind"] == kind or kind != "consumers" and r["kind"] == "consumers" and r["n"] == "1")
            axis.plot(*zip(*points), marker="o", label=kind)
        axis.set_xlabel("how many")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].legend()
    save(fig, "cost-idle.svg")


def speed():
    """Throughput and CPU by size of record and number of partitions."""
    data = rows("file.csv")
    fig, axes = plt.subplots(2, 3, figsize=(12, 6.5), sharex=True)
    for column, codec in enumerate(("none", "lz4", "zstd")):
        for row, (figure, label) in enumerate([("mb_per_s", "MB/s"), ("cpu_s_per_gb", "CPU-s/GB")]):
            axis = axes[row][column]
            for tool in ("kcagent", "kcagent json", "plain", "franz-go", "kcat"):
                points = sorted((int(r["bytes"]), float(r[figure])) for r in data
                                if r["codec"] == codec and r["partitions"] == "4" and r["tool"] == tool)
                if points:
                    axis.plot(*zip(*points), marker="o", label=tool)
            axis.set_title(f"{codec}, 4 partitions")
            axis.set_ylabel(label)
            axis.set_xscale("log")
            axis.set_ylim(bottom=0)
            axis.grid(alpha=0.3)
            if row == 1:
                axis.set_xlabel("bytes of a record")
    axes[0][0].legend()
    save(fig, "speed.svg")


many()
speed()
