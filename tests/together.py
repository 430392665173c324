"""Tasks that begin at once, each in a thread of its own."""

import threading


def in_threads(tasks):
    """What the tasks return, in their order."""
    results = [None] * len(tasks)
    barrier = threading.Barrier(len(tasks))

    def run(number, task):
        barrier.wait()
        results[number] = task()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
