"""The objects of a database's schema as text, for the comparison of two databases."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

Catalogue = dict[str, str]
"""Definition by name: `column transactions.v1` → `numeric(10,6) …`."""


def read(connection: Connection) -> Catalogue:
    """All objects that migrations create in the schema `public`, with their privileges."""
    return {row.name: row.definition for row in connection.exec_driver_sql(_OBJECTS)}


def differences(expected: Catalogue, actual: Catalogue) -> list[str]:
    """The missing, unknown and different objects, each as a sentence without a full stop."""
    missing = [f"{name} is missing" for name in sorted(expected.keys() - actual.keys())]
    unknown = [f"{name} was not made by a migration" for name in sorted(actual.keys() - expected.keys())]
    other = [
        f"{name} is {actual[name]!r}, the migrations create {expected[name]!r}"
        for name in sorted(expected.keys() & actual.keys())
        if actual[name] != expected[name]
    ]
    return missing + unknown + other


# Default privileges are written out, so that a privilege that was revoked and granted again is not a
# difference.
_OBJECTS: Final = """
WITH ours AS (SELECT c.* FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace)
SELECT 'schema public' AS name,
       (SELECT string_agg(item::text, ' ' ORDER BY item::text)
        FROM unnest(coalesce(nspacl, acldefault('n', nspowner))) AS item) AS definition
FROM pg_namespace WHERE nspname = 'public'
UNION ALL
SELECT CASE c.relkind WHEN 'r' THEN 'table ' WHEN 'p' THEN 'table ' WHEN 'v' THEN 'view '
            WHEN 'S' THEN 'sequence ' ELSE 'materialized view ' END || c.relname,
       concat_ws(' ', c.relpersistence::text, pg_get_userbyid(c.relowner), c.reloptions::text,
                 CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
                 (SELECT string_agg(item::text, ' ' ORDER BY item::text) FROM unnest(
                     coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char",
                                                   c.relowner))) AS item))
FROM ours c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
UNION ALL
SELECT 'column ' || c.relname || '.' || a.attname,
       concat_ws(' ', format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END,
                 'identity ' || nullif(a.attidentity::text, ''),
                 'generated ' || nullif(a.attgenerated::text, ''),
                 'default ' || pg_get_expr(d.adbin, d.adrelid), a.attacl::text)
FROM ours c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind IN ('r', 'p', 'v', 'm')
UNION ALL
SELECT 'constraint ' || c.relname || '.' || n.conname, pg_get_constraintdef(n.oid)
FROM pg_constraint n JOIN ours c ON c.oid = n.conrelid
UNION ALL
SELECT 'index ' || c.relname, pg_get_indexdef(c.oid) FROM ours c WHERE c.relkind = 'i'
UNION ALL
SELECT 'trigger ' || c.relname || '.' || g.tgname, pg_get_triggerdef(g.oid) || ' ' || g.tgenabled::text
FROM pg_trigger g JOIN ours c ON c.oid = g.tgrelid WHERE NOT g.tgisinternal
UNION ALL
SELECT 'function ' || p.oid::regprocedure,
       pg_get_functiondef(p.oid) || ' ' || pg_get_userbyid(p.proowner) || ' '
       || (SELECT string_agg(item::text, ' ' ORDER BY item::text)
           FROM unnest(coalesce(p.proacl, acldefault('f', p.proowner))) AS item)
FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace AND p.prokind IN ('f', 'p')
UNION ALL
SELECT 'type ' || t.typname,
       concat_ws(' ', t.typtype, format_type(nullif(t.typbasetype, 0), t.typtypmod),
                 (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder)
                  FROM pg_enum e WHERE e.enumtypid = t.oid))
FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'r')
UNION ALL
SELECT 'extension ' || extname, extversion FROM pg_extension
"""
