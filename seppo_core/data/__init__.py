"""Sources of captioned media: folders, tables, parquet, tars, the Hub."""
