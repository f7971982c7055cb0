"""The figures of the field, by their names, through scikit-learn and audmetric.

Emotion figures are computed on a confusion matrix: its cells are scikit-learn's samples and its
counts their weights. The bootstrap can then score a thousand draws of a large corpus, since a draw
is a sum of its speakers' matrices.

References
----------
Lian et al. 2023, "MER 2023: Multi-label Learning, Modality Robustness, and Semi-Supervised
Learning", arXiv:2304.08981: the combined score.
Zadeh et al. 2018, "Multimodal Language Analysis in the Wild: CMU-MOSEI Dataset", ACL: sentiment in
[-3, 3], the two binary flavours and seven classes.
"""

from collections.abc import Iterable

import numpy as np

from .labels import MISSING, Labels
from .posterior import Posterior

MER2023_WEIGHT = 0.25
EMOTION_FIGURES = ("waf", "macro_f1", "uar", "accuracy")
DIMENSION_FIGURES = ("mse", "mae", "ccc", "pearson")
ERRORS = ("mse", "mae", "log_loss", "brier", "ece")


def sign(score: str) -> int:
    """Return -1 for an error, of which less is better, else 1; `score` as in ``ccc:valence``."""
    return -1 if score.partition(":")[0] in ERRORS else 1


def headline(names: Iterable[str]) -> str:
    """Return the figure to show first: ``mer2023``, else ``waf``, else a dimension's concordance.

    >>> headline(["mse:valence", "ccc:valence"])
    'ccc:valence'
    """
    names = list(names)
    wanted = ("mer2023", "waf", *(n for n in names if n.startswith("ccc:")), *names)
    return next((n for n in wanted if n in names), "")


def confusion(truth: np.ndarray, chosen: np.ndarray, n_emotions: int) -> np.ndarray:
    """Count how often each emotion was taken for which.

    Parameters
    ----------
    truth, chosen : ndarray of int [shape=(clips,)]
        Clips whose truth is -1 do not count; where `chosen` is -1 no answer was given.
    n_emotions : int

    Returns
    -------
    ndarray of int [shape=(n_emotions, n_emotions + 1)]
        Labels down, answer across; the last column counts clips without an answer.
    """
    labelled = truth != MISSING
    answer = np.where(chosen[labelled] == MISSING, n_emotions, chosen[labelled])
    cell = truth[labelled] * (n_emotions + 1) + answer
    shape = (n_emotions, n_emotions + 1)
    return np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)


def emotion_figures(counts: np.ndarray) -> dict[str, float]:
    """Return ``waf``, ``macro_f1``, ``uar`` and ``accuracy`` of a confusion matrix.

    As scikit-learn has it, macro F1 is the mean over emotions that occur in truth or answers, and
    UAR, its balanced accuracy, over those that occur in the truth. A clip without an answer is a
    wrong one.
    """
    _, recall, f1, support = per_emotion(counts)
    total = support.sum()
    if not total:
        return dict.fromkeys(EMOTION_FIGURES, float("nan"))
    occurs = (support > 0) | (counts[:, :-1].sum(0) > 0)
    return {
        "waf": float(np.average(f1, weights=support)),
        "macro_f1": float(f1[occurs].mean()),
        "uar": float(recall[support > 0].mean()),
        "accuracy": float(np.average(recall, weights=support)),
    }


def per_emotion(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall, F1 and number of clips of each emotion, from the confusion."""
    from sklearn.metrics import precision_recall_fscore_support

    n = len(counts)
    truth, answer = np.divmod(np.arange(counts.size), n + 1)
    found = precision_recall_fscore_support(
        truth, answer, labels=np.arange(n), sample_weight=counts.ravel(), zero_division=0
    )
    precision, recall, f1, support = (np.asarray(values, float) for values in found)
    return precision, recall, f1, support


def dimension_figures(truth: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Return ``mse``, ``mae``, ``ccc`` and ``pearson`` where both are known; nan of too few."""
    import audmetric

    both = ~(np.isnan(truth) | np.isnan(estimate))
    truth, estimate = truth[both], estimate[both]
    if len(truth) < 2:
        return dict.fromkeys(DIMENSION_FIGURES, float("nan"))
    constant = not (np.ptp(truth) and np.ptp(estimate))
    return {
        "mse": float(audmetric.mean_squared_error(truth, estimate)),
        "mae": float(audmetric.mean_absolute_error(truth, estimate)),
        "ccc": float(audmetric.concordance_cc(truth, estimate)),
        "pearson": float("nan") if constant else float(audmetric.pearson_cc(truth, estimate)),
    }


def mer2023(waf: float, mse: float) -> float:
    """Return the MER 2023 score: weighted F1 of the emotion minus a quarter of valence's MSE."""
    return waf - MER2023_WEIGHT * mse


def sentiment_figures(truth: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
    """Return CMU-MOSEI's figures of a sentiment in [-3, 3].

    ``acc2_non_negative`` is negative against non-negative; ``acc2_positive`` negative against
    positive, clips of sentiment zero left out; ``f1_*`` the weighted F1 of either; ``acc7`` rounds
    away from zero to a whole number, as the CMU SDK does, and only zero itself is zero.
    """
    from sklearn.metrics import accuracy_score, f1_score

    result = {}
    for flavour, (labels, answers, _) in sentiment_classes(truth, estimate).items():
        known = labels != MISSING
        labels, answers = labels[known], answers[known]
        result[flavour] = float(accuracy_score(labels, answers)) if len(labels) else float("nan")
        if flavour.startswith("acc2"):
            f1 = f1_score(labels, answers, average="weighted", zero_division=0)
            result[flavour.replace("acc2", "f1")] = float(f1) if len(labels) else float("nan")
    return result


def sentiment_classes(truth: np.ndarray, estimate: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    """Return labels, answers and number of classes of CMU-MOSEI's three classifications.

    A clip that does not count is labelled -1.
    """
    unknown = np.isnan(truth) | np.isnan(estimate)
    found = {
        "acc2_non_negative": (truth >= 0, estimate >= 0, 2),
        "acc2_positive": (np.where(truth == 0, MISSING, truth > 0), estimate > 0, 2),
        "acc7": (_sevenths(truth), _sevenths(estimate), 7),
    }
    return {
        name: (np.where(unknown, MISSING, labels), answers.astype(int), n)
        for name, (labels, answers, n) in found.items()
    }


def figures(posterior: Posterior, truth: Labels, *, sentiment: bool = False) -> dict[str, float]:
    """Return every figure that posterior and labels allow.

    Parameters
    ----------
    posterior : Posterior
        Of the clips of `truth`, in that order, emotions in that order.
    truth : Labels
    sentiment : bool
        Valence is CMU-MOSEI's sentiment: add its figures.

    Returns
    -------
    dict of str to float
        ``waf``, ``macro_f1``, ``uar``, ``accuracy``; for each dimension ``mse:valence`` and so on;
        ``mer2023`` where there are emotions and valence.
    """
    result: dict[str, float] = {}
    if posterior.emotions and (truth.emotion != MISSING).any():
        counts = confusion(truth.emotion, posterior.chosen(), len(posterior.emotions))
        result |= emotion_figures(counts)
    for name, estimate in posterior.dimensions.items():
        if name in truth.dimensions:
            found = dimension_figures(truth.dimensions[name], estimate)
            if sentiment and name == "valence":
                found |= sentiment_figures(truth.dimensions[name], estimate)
            result |= {f"{figure}:{name}": value for figure, value in found.items()}
    if "waf" in result and "mse:valence" in result:
        result["mer2023"] = mer2023(result["waf"], result["mse:valence"])
    return result


def _sevenths(sentiment: np.ndarray) -> np.ndarray:
    away = np.sign(sentiment) * np.ceil(np.abs(sentiment))
    return np.asarray(np.clip(np.nan_to_num(away), -3, 3).astype(int) + 3)
