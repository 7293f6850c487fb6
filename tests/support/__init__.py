"""What the end-to-end suites stand on: clusters, shoald, a raw protocol client, comparisons."""
