"""Language models: the client, routing by cost, prompts, and the judgement of what comes back."""

import importlib.util
import sys

# httpx tries to load its command line, and with it click, pygments and rich where they are installed. It does without
# if that module cannot be found.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
# httpcore tries to import this one for every lock it takes. Where it is not installed, that is a search of the disk.
if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]
