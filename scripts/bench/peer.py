"""Serves timing requests of a bench over standard input and output, one JSON object a line."""

import argparse
import gc
import json
import sys
import time

import torch


def serve(cases):
    """Answers requests until the input ends. `cases` maps a name to a function that does its work n times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    say({"ready": True, "version": torch.__version__, "threads": threads, "cases": sorted(cases)})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            run = cases[request["case"]]
            gc.collect()
            start = time.perf_counter()
            run(request["iterations"])
            say({"seconds": time.perf_counter() - start})
        except Exception as error:  # the bench reports it and goes on
            say({"error": f"{type(error).__name__}: {error}"})


def say(message):
    print(json.dumps(message), flush=True)
