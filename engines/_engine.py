"""The contract of an engine: run the chunks of an extraction, somewhere and in some order."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from ..cache.store import FeatureStore
from ..extractors._plan import Chunk as Chunk
from ..extractors._plan import PlannedEncoder as PlannedEncoder
from ..extractors._settings import ExtractionSettings as ExtractionSettings


class Engine(ABC):
    """Base of every engine.

    A subclass is one file in engines/ that ends in ``plugin = TheClass``; its options are the
    keyword-only arguments of its constructor. It maps `extract_chunk` of extractors/_chunk.py, or a
    `Worker` of the same module, over the chunks. The arguments of both can be pickled. The shards
    do not depend on the order of the chunks, nor on the process that extracts them.
    """

    @abstractmethod
    def run(
        self,
        chunks: Sequence[Chunk],
        encoders: Sequence[PlannedEncoder],
        store: FeatureStore,
        settings: ExtractionSettings,
        *,
        progress: Callable[[str, str], None],
    ) -> int:
        """Extract all chunks and return the number of shards that were written.

        Parameters
        ----------
        chunks : sequence of Chunk
            Chunks that are not done, at least one.
        encoders : sequence of PlannedEncoder
            Encoders that the chunks need.
        store : FeatureStore
            Store to write to.
        settings : ExtractionSettings
            Settings of the extraction.
        progress : callable
            To be called with id and code of every clip that is done, from one thread at a time.

        Raises
        ------
        EnvironmentFailure
            The machine failed, not a clip; what was written stays.
        """
