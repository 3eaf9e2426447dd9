-- What a batch job left in MyDB, in pages as the others.
SELECT
TOP :rows
*
FROM {table}
WHERE objid >= :first
ORDER BY objid, specobjid
