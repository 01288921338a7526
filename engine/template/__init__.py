"""Turn a conversation into the text a model was trained on, content told apart from scaffold.

Knows chat templates, messages and tools. Does not know tokens or models.

    messages, tools -> marked values -> sandboxed Jinja -> text + which characters are content
"""

from __future__ import annotations

from engine.template.chat import ChatTemplate, Rendered
from engine.template.limits import Limits

__all__ = ["ChatTemplate", "Limits", "Rendered"]
