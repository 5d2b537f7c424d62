"""Several processes that serve one port: `--workers` above 1.

    parent   holds the port, decides, serves /metrics         supervisor.py, generation.py, restart.py, port.py
    loader   loads one model, forks workers that share it      loader.py
    worker   one server, as a single process has it            worker.py

    parent --exec--> loader --fork--> worker, worker, ...      each connected to the parent: control.py

The parent holds no model and nothing of gRPC and does nothing but look after the others, so that it is the last one to
fail. A new model means a new loader with workers of its own: a model that crashes its loader takes no other process
down, and the pages of the old one go with the processes that used them. A process that loses its connection to the
parent drains and ends.
"""
