"""Streams: which features of a store a recipe reads, and under which name."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..cache.store import Features, FeatureStore
from ..errors import MissingFeatures, RecipeError, listing
from ..plugins import modality_of


def choose_streams(
    store: FeatureStore, *, requests: Sequence[str] = (), modalities: Sequence[str] = ()
) -> dict[str, str]:
    """Choose which key of a store is which stream.

    Parameters
    ----------
    requests : sequence of str
        ``KEY`` or ``NAME=KEY``; the beginning of a key is enough. Empty: all keys of the store.
    modalities : sequence of str
        Keep only the streams of these modalities; empty: all.

    Returns
    -------
    dict of str to str
        Key by stream name. The only stream of a modality is called after the modality, such as ``audio``;
        several are called ``audio:NAME`` by the names of their features.

    Raises
    ------
    MissingFeatures
        The store is empty, or does not contain a requested key.
    RecipeError
        No stream remains, or two streams have the same name.
    """
    keys = store.keys()
    if not keys:
        raise MissingFeatures(
            f"{store.path} contains no features. Make them with `affuse extract CLIPS --out {store.path}` or "
            "`affuse cache import`."
        )
    named: list[tuple[str, str]] = []
    unnamed: list[str] = []
    for text in requests or keys:
        name, equals, key = text.partition("=") if text not in keys else ("", "", text)
        found = store.find_key(key if equals else text)
        if equals:
            _check_name(name, store.specification(found)["modality"])
            named.append((name, found))
        else:
            unnamed.append(found)
    counts = Counter(store.specification(key)["modality"] for key in unnamed)
    counts.update(modality_of(name) for name, _ in named)
    for key in unnamed:
        kind = store.specification(key)["modality"]
        named.append((kind if counts[kind] == 1 else f"{kind}:{_short_name(store, key, unnamed)}", key))
    named = [(name, key) for name, key in named if not modalities or modality_of(name) in modalities]
    if not named:
        raise RecipeError(
            f"The recipe reads only {listing(modalities)} streams, but {store.path} contains {listing(keys)}. "
            "Extract such features, or change streams.modalities."
        )
    repeated = [name for name, n in Counter(name for name, _ in named).items() if n > 1]
    if repeated:
        raise RecipeError(f"Two streams have the name {listing(repeated)}. Name them with --stream NAME=KEY.")
    return dict(sorted(named))


def same_features(store: FeatureStore, stream: Mapping[str, Any]) -> str:
    """Return the key of the features that a model was trained on, in a store that may be another one.

    The key of imported features depends on their content, so that the features of new clips have another key.
    They are recognised by name, modality and width. `stream` is an entry of the streams in run.json.
    """
    key, known = str(stream["key"]), stream["specification"]
    keys = store.keys()
    if key in keys:
        return key
    if "imported" in known.get("identity", {}):
        similar = [
            other
            for other in keys
            if all(store.specification(other).get(f) == known[f] for f in ("name", "modality", "dim"))
        ]
        if len(similar) == 1:
            return similar[0]
    raise MissingFeatures(
        f"{store.path} does not contain {key}, which the run was trained on. Extract the clips with the same encoder "
        "into it, or name other features with --stream NAME=KEY."
    )


def fill_times(streams: Mapping[str, Features | None]) -> dict[str, Features | None]:
    """Spread steps without times evenly over the span of the clip's other streams, or one second apart."""
    filled = dict(streams)
    known = [f.times for f in filled.values() if f is not None and np.isfinite(f.times).any()]
    # The end of the last step, if steps are equally long and the first one starts at zero.
    end = max((float(np.nanmax(t) + np.nanmin(t)) for t in known), default=0.0)
    for name, features in filled.items():
        if features is not None and not np.isfinite(features.times).all():
            n = len(features.times)
            times = (np.arange(n, dtype=np.float32) + 0.5) * ((end or n) / n)
            filled[name] = features._replace(times=times)
    return filled


def _check_name(name: str, kind: str) -> None:
    if modality_of(name) != kind:
        raise RecipeError(
            f"A stream of {kind} features cannot be called {name!r}. The name of a stream begins with its modality, "
            f"such as {kind!r} or '{kind}:{name}'."
        )


def _short_name(store: FeatureStore, key: str, keys: Sequence[str]) -> str:
    names = [store.specification(other).get("name", other) for other in keys]
    name = str(store.specification(key).get("name", key))
    return name if names.count(name) == 1 else key
