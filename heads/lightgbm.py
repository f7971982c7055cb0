"""Gradient-boosted trees on pooled features (Ke et al. 2017, LightGBM).

LightGBM grows the trees. They are stored as five arrays of nodes, from which this module predicts. A model file from
an untrusted source is then read without a parser in C++, and all its indices are checked.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import softmax

from ..errors import RecipeError
from ._pooled import ABSENT, PooledHead

NODES = ("feature", "threshold", "left", "right", "value")


class LightGBM(PooledHead):
    """Gradient-boosted trees on pooled features.

    Parameters
    ----------
    emotions, dimensions : sequence of str
        Targets to predict.
    rounds : int
        Number of trees for each emotion and each dimension.
    learning_rate : float
        Factor of the contribution of each tree.
    leaves : int
        Largest number of leaves of a tree.
    min_clips : int
        Smallest number of clips in a leaf.
    features : float
        Share of the features that a tree may use.
    penalty : float
        L2 penalty on the leaves.
    seed : int
        Seed of the choice of features.
    """

    def __init__(
        self,
        emotions: Sequence[str],
        dimensions: Sequence[str],
        *,
        rounds: int = 100,
        learning_rate: float = 0.1,
        leaves: int = 15,
        min_clips: int = 10,
        features: float = 0.2,
        penalty: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(emotions, dimensions)
        if rounds < 1 or leaves < 2 or learning_rate <= 0 or not 0 < features <= 1:
            raise RecipeError(
                f"lightgbm: found rounds = {rounds}, leaves = {leaves}, learning_rate = {learning_rate}, "
                f"features = {features}. Expected at least 1 round and 2 leaves, a learning rate above 0 and a share "
                "of features above 0 and up to 1."
            )
        if min(min_clips, penalty, seed) < 0:
            raise RecipeError("lightgbm: min_clips, penalty and seed must not be negative.")
        self.rounds = rounds
        self.settings = {
            "learning_rate": learning_rate,
            "num_leaves": leaves,
            "min_data_in_leaf": min_clips,
            "feature_fraction": features,
            "lambda_l2": penalty,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }

    def fit_emotion(self, z: np.ndarray, labels: np.ndarray, speakers: np.ndarray | None) -> None:
        found, index = np.unique(labels, return_inverse=True)
        self._grow("emotion", z, index, {"objective": "multiclass", "num_class": len(found)}, len(found))
        self.arrays["emotion.columns"] = found.astype(np.int64)

    def fit_dimension(self, name: str, z: np.ndarray, values: np.ndarray) -> None:
        self._grow(name, z, values, {"objective": "regression"}, 1)

    def _grow(self, name: str, z: np.ndarray, targets: np.ndarray, objective: Mapping[str, Any], n: int) -> None:
        import lightgbm

        data = lightgbm.Dataset(z, targets, params={"verbosity": -1})
        booster = lightgbm.train({**self.settings, **objective}, data, self.rounds)
        trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
        nodes: dict[str, list[float]] = {key: [] for key in NODES}
        roots = [_flatten(tree, nodes) for tree in trees]
        for key in NODES:
            whole = key in ("feature", "left", "right")
            self.arrays[f"{name}.{key}"] = np.array(nodes[key], np.int64 if whole else np.float64)
        self.arrays[f"{name}.roots"] = np.array(roots, np.int64).reshape(-1, n)

    def _scores(self, name: str, z: np.ndarray) -> np.ndarray:
        """Return the sums of the values of the trees, shape (clips, trees per round)."""
        feature, threshold, left, right, value = (self.arrays[f"{name}.{k}"] for k in NODES)
        roots = self.arrays[f"{name}.roots"]
        at = np.broadcast_to(roots.ravel(), (len(z), roots.size)).copy()
        clips, trees = np.nonzero(feature[at] >= 0)
        while len(clips):
            node = at[clips, trees]
            below = z[clips, feature[node]] <= threshold[node]
            node = np.where(below, left[node], right[node])
            at[clips, trees] = node
            inner = feature[node] >= 0
            clips, trees = clips[inner], trees[inner]
        return np.asarray(value[at].reshape(len(z), *roots.shape).sum(1))

    def probabilities(self, z: np.ndarray) -> np.ndarray:
        logits = np.full((len(z), len(self.emotions)), ABSENT)
        logits[:, self.arrays["emotion.columns"]] = self._scores("emotion", z)
        return softmax(logits, axis=1)

    def dimension(self, name: str, z: np.ndarray) -> np.ndarray:
        return self._scores(name, z)[:, 0]

    def check(self) -> None:
        super().check()
        if self.emotions:
            columns = self.expect("emotion.columns", None)
            distinct = len(np.unique(columns)) == len(columns) > 1
            if not distinct or not ((columns >= 0) & (columns < len(self.emotions))).all():
                raise ValueError("array 'emotion.columns' does not hold indices of emotions")
            self._check_trees("emotion", len(columns))
        for name in self.dimensions:
            self._check_trees(name, 1)

    def _check_trees(self, name: str, n: int) -> None:
        feature = self.expect(f"{name}.feature", None)
        n_nodes, inner = len(feature), feature >= 0
        self.expect(f"{name}.threshold", n_nodes)
        self.expect(f"{name}.value", n_nodes)
        roots = self.expect(f"{name}.roots", None, n)
        # Every child comes after its parent, so that each walk through a tree ends.
        place = np.arange(n_nodes)
        sides = [self.expect(f"{name}.{side}", n_nodes) for side in ("left", "right")]
        integers = all(a.dtype == np.int64 for a in (feature, roots, *sides))
        forward = all(((s > place) & (s < n_nodes))[inner].all() for s in sides)
        rooted = ((roots >= 0) & (roots < n_nodes)).all()
        if not (integers and forward and rooted and (feature < len(self.arrays["mean"])).all()):
            raise ValueError(f"the trees of {name!r} refer to nodes or features that do not exist")


def _flatten(tree: Mapping[str, Any], nodes: dict[str, list[float]]) -> int:
    """Append the nodes of a tree, parents before children, and return the index of its root."""
    root = len(nodes["feature"])
    waiting: list[tuple[Mapping[str, Any], str, int]] = [(tree, "", 0)]
    while waiting:
        node, side, parent = waiting.pop()
        place = len(nodes["feature"])
        if side:
            nodes[side][parent] = place
        inner = "split_feature" in node
        nodes["feature"].append(node["split_feature"] if inner else -1)
        nodes["threshold"].append(node["threshold"] if inner else 0.0)
        nodes["value"].append(0.0 if inner else node["leaf_value"])
        nodes["left"].append(-1)
        nodes["right"].append(-1)
        if inner:
            waiting += [(node["left_child"], "left", place), (node["right_child"], "right", place)]
    return root


plugin = LightGBM
