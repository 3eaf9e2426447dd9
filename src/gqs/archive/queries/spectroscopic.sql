-- Spectroscopic classes with photometry: the labels that training needs. Paper 3.1.
-- A line whose :value or {name} was not given is left out. {kind}: psf, model or cModel.
-- Pages go by objid: each begins at the last objid of the page before, whose rows come again, so
-- that no object with several spectra is parted. The last column repeats the first: a cut shows.
-- Columns: SpecPhotoAll, PhotoObjAll in SDSS's schema files SpectroTables.sql, PhotoTables.sql.
SELECT
TOP :rows
p.objID AS objid, s.specObjID AS specobjid, s.class, p.ra, p.dec, p.run, p.camcol, p.field, p.type,
s.z AS redshift, s.plate, s.mjd, s.fiberID AS fiberid, s.sciencePrimary AS best,
p.{kind}Mag_u AS u, p.{kind}Mag_g AS g, p.{kind}Mag_r AS r, p.{kind}Mag_i AS i, p.{kind}Mag_z AS z,
p.{kind}MagErr_u AS magerr_u, p.{kind}MagErr_g AS magerr_g, p.{kind}MagErr_r AS magerr_r,
p.{kind}MagErr_i AS magerr_i, p.{kind}MagErr_z AS magerr_z,
p.extinction_u, p.extinction_g, p.extinction_r, p.extinction_i, p.extinction_z,
p.psfMag_r AS psfmag_r, p.cModelMag_r AS cmodelmag_r, p.objID AS row_end
INTO MyDB.{table}
FROM PhotoObjAll AS p
JOIN SpecPhotoAll AS s ON s.objID = p.objID
WHERE s.zWarning = 0
AND s.class IN (:classes)
AND s.sciencePrimary = :primary AND p.mode = :primary
AND p.run IN (:runs)
AND p.{kind}Mag_{band} >= :bright
AND p.{kind}Mag_{band} <= :faint
AND p.cx * :x + p.cy * :y + p.cz * :z >= :cosine
AND p.objID >= :first
ORDER BY p.objID, s.specObjID
