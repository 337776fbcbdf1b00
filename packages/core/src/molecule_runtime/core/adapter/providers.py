"""Where a model is reached: `provider:model` to key, URL and model id (contract `runtime.md` 10.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

ProviderRegistry: TypeAlias = Mapping[str, tuple[tuple[str, ...], str]]
"""`{prefix: ((variable that may hold the key, ...), default base URL)}`."""

DEFAULT_PREFIX = "openai"
OPENAI_BASE_URL = "https://api.openai.com/v1"
_FALLBACK: tuple[tuple[str, ...], str] = (("OPENAI_API_KEY",), OPENAI_BASE_URL)


def resolve_provider_routing(
    model_str: str,
    env: Mapping[str, str],
    *,
    registry: ProviderRegistry,
    runtime_config: Mapping[str, Any] | None = None,
) -> tuple[str, str, str]:
    """Return `(api_key, base_url, model_id)` of a model.

    The prefix ends at the first colon; without one it is `openai`. A prefix that is not in the registry is treated as OpenAI's own
    API. The key is that of the first variable that is set. The URL is `<PREFIX>_BASE_URL`, else `provider_url` of
    `runtime_config`, else the registry's.

    Raises:
        RuntimeError: none of the variables is set; the message names them, never a value.
    """
    prefix, colon, model_id = model_str.partition(":")
    if not colon:
        prefix, model_id = DEFAULT_PREFIX, model_str
    prefix = prefix.strip().lower()
    variables, default_url = registry.get(prefix, _FALLBACK)
    api_key = next((value for name in variables if (value := env.get(name, "").strip())), "")
    if not api_key:
        raise RuntimeError(f"no API key for model {model_str!r}: set {' or '.join(variables)}")
    configured = (runtime_config or {}).get("provider_url")
    base_url = (
        env.get(f"{prefix.upper().replace('-', '_')}_BASE_URL", "").strip()
        or (configured.strip() if isinstance(configured, str) else "")
        or default_url
    )
    return api_key, base_url, model_id.strip()
