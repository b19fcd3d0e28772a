"""Judging the judge: benchmarks, agreement with people, audits with planted errors, probes of bias, and statistics."""
