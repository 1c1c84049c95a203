"""Draws the accuracy of a report against its tokens with matplotlib, for a paper:

    tts report swept/ --csv strategies > strategies.csv
    python3 examples/plot_report.py strategies.csv accuracy.pdf majority adaptive-consistency
"""

import csv
import sys

import matplotlib.pyplot as plt

COLUMNS = ("tokens", "accuracy.mean", "accuracy.problems.low", "accuracy.problems.high")
table, picture, *wanted = sys.argv[1:]
series = {}
for row in csv.DictReader(open(table)):
    if row["accuracy.mean"] and (not wanted or row["series"] in wanted):
        series.setdefault(row["series"], []).append([float(row[column] or "nan") for column in COLUMNS])
figure, axes = plt.subplots(figsize=(5.5, 3.4))
for name, arms in series.items():
    tokens, accuracy, low, high = zip(*sorted(arms))
    axes.plot(tokens, accuracy, marker="o", label=name)
    axes.fill_between(tokens, low, high, alpha=0.12)
axes.set(xscale="log", xlabel="generated tokens a problem", ylabel="accuracy")
axes.legend(frameon=False)
figure.savefig(picture, bbox_inches="tight")
