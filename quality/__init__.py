"""Raw tables into clean ones: one file per repair, every change audited."""
