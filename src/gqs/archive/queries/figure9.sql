-- The paper's own query, Figure 9, with its slips mended: one z is the redshift and one the
-- magnitude, so the first is named; quotes are quotes; several classes and runs may be asked for.
-- Added for paging: TOP, the spectrum's id, the order, and the last column (the first again).
SELECT
TOP :rows
p.objID AS objid, s.specObjID AS specobjid, p.run, p.camcol, p.field, p.type,
p.ra, p.dec, s.z AS redshift, s.class,
p.u, p.g, p.r, p.i, p.z, p.psfMag_r AS psfmag_r, p.cModelMag_r AS cmodelmag_r, p.objID AS row_end
INTO MyDB.{table}
FROM PhotoObj AS p
JOIN SpecPhoto AS s ON s.objID = p.objID
WHERE s.class IN (:classes)
AND s.zWarning = 0
AND p.run IN (:runs)
AND p.objID >= :first
ORDER BY p.objID, s.specObjID
