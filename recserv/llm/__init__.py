"""Language models: the client, routing by cost, prompts, and validation of what comes back."""

import importlib.util
import sys

# httpx imports its command line if it can, and with it click, pygments and rich. It works without that module.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
# httpcore tries to import sniffio for every lock it takes, which searches the disk each time where it is not installed.
if "sniffio" not in sys.modules and importlib.util.find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]
