"""Arrays in files: a module per format, and what loads and saves in all of them."""

from minisplit.core.stored import set_sink_opener
from minisplit.io.sinks import FileSink

set_sink_opener(FileSink)
