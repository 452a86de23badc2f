"""shipper: container logs to Elasticsearch and S3, with nothing lost, nothing twice, and proof of it.

    /var/log/pods --> input --> parsers --> filters --> router --> outputs --> Elasticsearch, S3, files
                        ^        (pure, synchronous, on whole chunks)   |
                        |                                              | fate of every record
                     checkpoint  <------------- acks -------------------+

The log file is the buffer: a checkpoint moves only when a destination has confirmed. docs/architecture.md tells more.
"""

__version__ = "0.1.0"
