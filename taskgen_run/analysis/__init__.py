"""Schedulability analysis: whether task sets keep their deadlines, whatever happens.

::

    from taskgen_run.analysis import processor_demand, response_time, sporadic

    tasks = sporadic.from_taskset(taskset)
    response_time.is_schedulable(tasks)     # preemptive fixed priorities
    processor_demand.is_schedulable(tasks)  # preemptive EDF

Both are exact, for one processor without overheads, in int ns: no floating-point numbers.
"""
