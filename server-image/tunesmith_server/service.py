"""A loaded model, ready to answer: folder, tokenizer, template, engine, providers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from tokenizers import Tokenizer

from tunesmith_server.cpu import threads
from tunesmith_server.engine import Engine
from tunesmith_server.errors import ModelError, SettingsError
from tunesmith_server.folder import ModelFolder, read_folder
from tunesmith_server.providers import ProviderStatus
from tunesmith_server.session import Decoder, describe, open_session
from tunesmith_server.settings import Settings
from tunesmith_server.slot_engine import EngineLimits, SlotEngine
from tunesmith_server.slots import SlotCache
from tunesmith_server.template import ChatTemplate
from tunesmith_server.tokens import TokenBytes, load_tokenizer

_DEFAULT_CONTEXT = 4096  # a 128k model would otherwise promise memory that a pod does not have


@dataclass(frozen=True)
class Service:
    """Everything that the routes need. `created` is in seconds since 1970; `max_context` in tokens."""

    name: str
    created: int
    folder: ModelFolder
    tokenizer: Tokenizer
    token_bytes: TokenBytes
    template: ChatTemplate | None
    engine: Engine
    providers: ProviderStatus
    vocabulary: int
    max_context: int
    max_sequences: int

    @property
    def defaults(self) -> Mapping[str, float | int]:
        """The model's own sampling defaults."""
        return self.folder.defaults


def load_service(settings: Settings) -> Service:
    """Load the model of `settings`; takes seconds to minutes.

    Raises:
        StartupError: the folder, the graph or the providers are not what they have to be.
    """
    folder = read_folder(settings.model_dir)
    context = _context(settings, folder)
    tokenizer = load_tokenizer(folder.path / "tokenizer.json")
    template = folder.chat_template and ChatTemplate(folder.chat_template, folder.special_tokens, _now)
    session, providers = open_session(
        folder, settings.providers, settings.provider_policy, settings.threads or threads()
    )
    graph = describe(session, folder)
    if tokenizer.get_vocab_size() > graph.vocabulary:
        raise ModelError(
            f"{folder.path}: the tokenizer has {tokenizer.get_vocab_size()} tokens, the graph {graph.vocabulary}"
        )
    cache = SlotCache(graph.cache, settings.max_concurrency, context)
    limits = EngineLimits(settings.max_queue, settings.prefill_chunk)
    return Service(
        name=settings.served_model_name or folder.name,
        created=int(folder.graph.stat().st_mtime),
        folder=folder,
        tokenizer=tokenizer,
        token_bytes=TokenBytes(tokenizer),
        template=template or None,
        engine=SlotEngine(Decoder(session, graph, cache), cache, folder.end_tokens, limits),
        providers=providers,
        vocabulary=graph.vocabulary,
        max_context=context,
        max_sequences=settings.max_concurrency + settings.max_queue,
    )


def _context(settings: Settings, folder: ModelFolder) -> int:
    if settings.max_context is None:
        return min(folder.context_length, _DEFAULT_CONTEXT)
    if settings.max_context > folder.context_length:
        raise SettingsError(
            f"--max-context: {settings.max_context} is beyond the model's context of {folder.context_length} tokens"
        )
    return settings.max_context


def _now() -> datetime:
    return datetime.now(UTC).astimezone()
