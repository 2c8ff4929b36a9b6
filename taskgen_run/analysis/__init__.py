"""Schedulability analysis: whether task sets keep their deadlines, whatever happens.

::

    from taskgen_run.analysis import processor_demand, response_time, sporadic

    tasks = sporadic.from_taskset(taskset)
    response_time.is_schedulable(tasks)     # preemptive fixed priorities
    processor_demand.is_schedulable(tasks)  # preemptive EDF

Both are exact, for one processor without overheads, in int ns: no floating-point numbers. Beside
them are

==================  ==============================================================================
utilization         bounds for rate-monotonic priorities and for EDF
offsets             fixed priorities and EDF with given offsets, exact
nonpreemptive       fixed priorities and EDF, for jobs that run to their end once they have begun
multiprocessor      global fixed priorities and EDF
packing             how partitioned scheduling chooses a processor for each task
verdicts            which tests apply to how a session schedules, and what they say: the columns
==================  ==============================================================================

The agent imports `response_time` and `processor_demand`, so these need the standard library only.
"""
