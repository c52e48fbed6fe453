"""`verify`: checks that topics, ledger and source agree. It decodes, compares and judges by code of its own."""
