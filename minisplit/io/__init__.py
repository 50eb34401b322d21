"""Arrays in files: a module per format, and what loads and saves in all of them."""

from minisplit.core import storage
from minisplit.io.sink import FileSink

storage.sink_opener = FileSink
