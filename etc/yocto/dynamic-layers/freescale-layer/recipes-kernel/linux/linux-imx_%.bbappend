require digsign-kernel.inc
