-- Fields whose centre lies near a position (deg; :radius in arcmin), as SkyServer's own list of
-- frames asks for them, with the r band's astrometry: mu = a + b row + c column, nu = d + e row +
-- f column, on the great circle of node and incl (schema file FrameTables.sql). Zoom 0: each once.
SELECT
TOP :rows
f.run, f.camcol, f.field, f.a, f.b, f.c, f.d, f.e, f.f, f.node, f.incl, f.run AS row_end
FROM dbo.fGetNearbyFrameEq(:ra, :dec, :radius, 0) AS n
JOIN Frame AS f ON f.fieldID = n.fieldID
WHERE f.zoom = 0
ORDER BY f.run, f.camcol, f.field
