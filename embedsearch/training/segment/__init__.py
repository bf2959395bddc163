"""``finetune --task segment``: what every pixel shows, by masks, polygons or a teacher."""
