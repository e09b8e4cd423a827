"""A recording as files, in the form each source serves."""

from sample_data.generator.write.changes import changes
from sample_data.generator.write.file import put
from sample_data.generator.write.kubernetes import kubernetes
from sample_data.generator.write.logs import logs
from sample_data.generator.write.metrics import metrics
from sample_data.generator.write.sentry import sentry
from sample_data.generator.write.traces import jaeger, rows_of

__all__ = ["changes", "jaeger", "kubernetes", "logs", "metrics", "put", "rows_of", "sentry"]
