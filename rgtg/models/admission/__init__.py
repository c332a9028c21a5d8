"""Trial of unknown model folders in a child process under limits, before the main process reads them."""
