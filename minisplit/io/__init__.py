"""Arrays in files: a module per format, and what loads and saves in all of them."""

from minisplit.core.storage import set_sink_opener
from minisplit.io.sink import FileSink

set_sink_opener(FileSink)
