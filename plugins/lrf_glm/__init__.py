"""Judge and embedder of Zhipu AI (bigmodel.cn) and Z.ai."""
