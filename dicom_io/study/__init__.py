"""One study from headers to lesions: matching, assembling, checking."""
