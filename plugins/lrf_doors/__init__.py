"""Functions by which training stacks ask for rewards, a module a stack.

Each is given the address of a server (``lrf serve``) or the path of a pipeline, and opens it on first use in each
process, so it can be forked and pickled. A pipeline's path is for one process, since its run can't be shared; several
processes need a server, which then shares notes, indexes and the journal among them.

A reward that is missing (the judge failed, a deadline passed) is never a zero. Where the stack has a word for it, that
is returned; where it has none, ``on_missing`` decides: ``"error"`` raises :class:`lrf_doors.source.MissingRewardError`,
a number stands in for the reward.
"""
