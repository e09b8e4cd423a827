"""Marks on rows: what is wrong with them still, and which rules changed them."""

from __future__ import annotations

import polars as pl


def fault(name: str, when: pl.Expr) -> pl.Expr:
    """`faults` with `name` added where `when` holds; adding twice is adding once."""
    return _add("faults", name, when)


def repaired(name: str, when: pl.Expr) -> pl.Expr:
    """`repaired` with `name` added where `when` holds."""
    return _add("repaired", name, when)


def _add(column: str, name: str, when: pl.Expr) -> pl.Expr:
    with_it = pl.col(column).list.set_union(pl.lit([name], pl.List(pl.String)))
    return (
        pl.when(when.fill_null(value=False)).then(with_it).otherwise(pl.col(column)).alias(column)
    )
