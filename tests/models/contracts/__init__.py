"""One suite for every candidate source (`suite.SourceContract`), one file per source."""
