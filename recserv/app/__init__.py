"""Composition: the parts put together, and the processes that own their lifetimes.

process.py   what `recserv serve` runs             serving.py   one server with everything behind it
alone.py     one process: signals, reload in place  model.py     the verified model and its index
fleet/       a parent and its workers               live.py      the model that serves, and its replacement
reload.py    when to load another model             store.py     the state store that the settings name
server_process.py   `recserv serve` as a child of a command or of a test
"""
