"""One patient's lesions together: indices, variation, response, sampling."""
