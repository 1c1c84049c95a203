"""From a model to a plot, in cells: accuracy against tokens of three strategies and of one that is written here.

    pip install . pandas matplotlib && python examples/model_to_plot.py
"""
# %% A model (a folder, a .gguf file, org/name; None is the one that the package carries) and a set (a file, a task)
import matplotlib.pyplot as plt
import tts
model, dataset = None, "heldout"

# %% A strategy of one's own: a vote weighs what the least sure part of its trace weighs
class LeastSure(tts.Strategy):
    needs, window = ("confidence",), 16
    def begin(self, traces, slots, max_tokens):
        self.weights = {}
        return traces
    def finished(self, trace):
        if trace.finish == "stop" and trace.answer_class is not None:
            self.weights[trace.trace] = trace.scores["lowest_group"]
    def decide(self):
        return self.weights

# %% Every trace once, every decision over the same traces
sweep = tts.open(model).sweep(dataset, limit=40, traces=[1, 2, 4, 8, 16, 32], strategies=["majority", "adaptive-consistency", "deepconf-low", LeastSure])
for name, rows in sweep.to_pandas().groupby("strategy"):
    plt.errorbar(rows.tokens, rows.accuracy, [rows.accuracy - rows.accuracy_low, rows.accuracy_high - rows.accuracy], marker="o", label=name)
plt.gca().set(xscale="log", xlabel="tokens a problem", ylabel="accuracy (95% intervals)")
plt.legend()
plt.savefig("accuracy.png", dpi=150)
