// GET /health answers 200
